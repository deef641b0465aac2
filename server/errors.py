"""Every error that a client may see, each with its status, type, code and param.

    SottoError                       500  server_error
    ├── InvalidRequest               400  invalid_request_error
    │   ├── MalformedRequest         400  not HTTP; 431: head too long; 501: unknown encoding
    │   ├── UndecodableAudio         400  the file is not audio, or corrupt
    │   ├── AudioTooShort            400  below 0.1 s
    │   ├── AudioTooLong             400  above SOTTO_MAX_AUDIO_SECONDS
    │   └── UnknownLanguage          400
    ├── Unauthorized                 401
    ├── PermissionDenied             403
    ├── NotFound                     404
    │   └── ModelNotFound            404
    ├── MethodNotAllowed             405
    ├── UploadTooSlow                408
    │   └── UploadTookTooLong        408
    ├── ModelBusy                    409  it can't be unloaded while requests use it
    ├── UploadTooLarge               413
    ├── RateLimited                  429  this client has too many requests in progress, or sent many wrong keys
    ├── RequestTimeout               503  longer than SOTTO_REQUEST_TIMEOUT_SECONDS
    ├── Unavailable                  503  the server is full, starting or stopping
    │   └── QueueFull                503  the engine's queue; the pipeline never reaches its limit
    ├── Cancelled                    499  the client no longer waits for the answer
    ├── RemoteError                  500  another server, contacted by a command, returned an error or no answer
    └── ModelUnavailable             500  a model can't be found or loaded
        ├── UnsupportedModel         400  the hub's repository holds none that runs here
        ├── RepositoryNotFound       404
        ├── ModelLocked              409  another process is writing it
        ├── PullFailed               502  the hub doesn't provide it
        ├── InsufficientStorage      507  the disk is full
        └── ModelBroken              503  an available model whose files are bad, or that needs too much memory

Bodies are worded like OpenAI's where those are known (contract, section 4). The API turns them into responses;
nothing here knows HTTP beyond the status code.
"""


def one_line(error: Exception) -> str:
    """An error as one line: for an OSError its file and message, without a number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class SottoError(Exception):
    """Base class. `str(error)` is safe to show to the client."""

    status = 500
    type = "server_error"
    code: str | None = None
    param: str | None = None
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param or self.param
        self.code = code or self.code


class InvalidRequest(SottoError):
    status = 400
    type = "invalid_request_error"


class MalformedRequest(InvalidRequest):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class UndecodableAudio(InvalidRequest):
    param = "file"
    code = "invalid_value"

    def __init__(self, detail: str = "") -> None:
        message = "The audio file could not be decoded or its format is not supported."
        super().__init__(f"{message} {detail}".strip())
        self.detail = detail


class AudioTooShort(InvalidRequest):
    param = "file"
    code = "audio_too_short"

    def __init__(self) -> None:
        super().__init__("Audio file is too short. Minimum audio length is 0.1 seconds.")


class AudioTooLong(InvalidRequest):
    code = "invalid_value"

    def __init__(self, limit_s: float) -> None:
        known = f"audio duration is longer than {limit_s:g} seconds which is the maximum for this model"
        super().__init__(f"{known} (SOTTO_MAX_AUDIO_SECONDS)")


class UnknownLanguage(InvalidRequest):
    param = "language"
    code = "invalid_language_format"

    def __init__(self, language: str, *, param: str | None = None) -> None:
        super().__init__(
            f"Invalid language '{language[:40]}'. Language parameter must be specified in ISO-639-1 format.",
            param=param,
        )


class Unauthorized(SottoError):
    status = 401
    type = "invalid_request_error"


class PermissionDenied(SottoError):
    status = 403
    type = "invalid_request_error"
    code = "permission_denied"


class NotFound(SottoError):
    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    param = "model"
    code = "model_not_found"

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"The model '{name[:200]}' does not exist{hint}")


class MethodNotAllowed(SottoError):
    status = 405
    type = "invalid_request_error"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class UploadTooLarge(SottoError):
    status = 413  # type stays server_error, as in OpenAI's answers

    def __init__(self, limit_bytes: int, read_bytes: int, *, setting: str = "SOTTO_MAX_UPLOAD_MB") -> None:
        known = f"Maximum content size limit ({limit_bytes}) exceeded ({read_bytes} bytes read)"
        super().__init__(f"{known} ({setting})")


class UploadTooSlow(SottoError):
    status = 408
    type = "invalid_request_error"

    def __init__(self, bytes_per_s: int) -> None:
        floor = f"fewer than {bytes_per_s} bytes per second (SOTTO_MIN_UPLOAD_BYTES_PER_SECOND)"
        super().__init__(f"The upload is too slow: {floor}.")


class UploadTookTooLong(UploadTooSlow):
    def __init__(self, limit_s: float) -> None:
        SottoError.__init__(self, f"The upload took longer than {limit_s / 60:g} minutes.")


class RateLimited(SottoError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestTimeout(SottoError):
    status = 503
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request took longer than this server allows (SOTTO_REQUEST_TIMEOUT_SECONDS).")


class Unavailable(SottoError):
    status = 503
    retry_after_s: int = 2

    def __init__(self, message: str, *, retry_after_s: int = retry_after_s) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Unavailable):
    pass


class Cancelled(SottoError):
    status = 499


class ModelUnavailable(SottoError):
    pass


class UnsupportedModel(ModelUnavailable):
    status = 400
    type = "invalid_request_error"
    param = "model"
    code = "unsuitable_model"


class RepositoryNotFound(ModelUnavailable):
    status = 404
    type = "invalid_request_error"
    param = "model"
    code = "model_not_found"


class ModelLocked(ModelUnavailable):
    status = 409
    type = "invalid_request_error"
    param = "model"
    code = "model_busy"


class PullFailed(ModelUnavailable):
    status = 502
    code = "pull_failed"


class InsufficientStorage(ModelUnavailable):
    status = 507
    code = "no_room"


class ModelBroken(ModelUnavailable):
    status = 503
    param = "model"
    code = "model_broken"

    def __init__(self, name: str, reason: str, *, public: str | None = None) -> None:
        """`reason` may name files of this machine; `public` is what clients see instead."""
        super().__init__(f"The model '{name}' can't be loaded: {reason if public is None else public}")
        self.name = name
        self.reason = reason

    def in_full(self) -> "ModelBroken":
        """The same error for those who may see this machine's paths."""
        return ModelBroken(self.name, self.reason)


class ModelBusy(SottoError):
    status = 409
    param = "model"
    code = "model_busy"

    def __init__(self, name: str) -> None:
        super().__init__(f"The model '{name}' is in use")


class RemoteError(SottoError):
    pass
