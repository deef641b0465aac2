"""The whole API as an OpenAPI 3.1 document, which /openapi.json serves and /docs shows.

FastAPI makes it of what the routes declare. Added here is what it has no arguments for.
"""

from collections.abc import Iterator

from fastapi.openapi.utils import get_openapi

from server import __version__
from server.api.openapi.declarations import HEADERS, Json, error_responses
from server.api.routes import health, models, ps, render, transcriptions

DESCRIBED = (transcriptions, render, models, ps, health)

DESCRIPTION = """\
OpenAI's audio API on this machine: a client needs no more than this server's address, with `/v1` behind it. For a
server on port 8000 of this machine:
`curl localhost:8000/v1/audio/transcriptions -F model=whisper-1 -F file=@speech.mp3`

Every error is OpenAI's envelope, `{"error": {"message", "type", "param", "code"}}`, in JSON whatever was asked for.

A key is needed where the server has any (`SOTTO_API_KEYS`), but for `/`, `/health`, `/ready`,
`/docs` and `/openapi.json`.

Routes under `/v1` answer without it as well, under `/openai/v1`, and where Azure has them:
`/openai/deployments/{model}/audio/transcriptions` and `/translations`.\
"""

KEYS: Json = {
    "key": {"type": "http", "scheme": "bearer"},
    "azureKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    "password": {"type": "http", "scheme": "basic", "description": "The key as the password; any user name."},
}


def describe() -> Json:
    """Return the document. It is the same for every server of this version: it contains no settings."""
    document = get_openapi(
        title="Sotto",
        version=__version__,
        summary="Speech to text behind OpenAI's audio API.",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/"}],
        routes=[route for module in DESCRIBED for route in module.router.routes],
    )
    schemas = document["components"]["schemas"]
    for content in _contents(document):
        schemas |= content["schema"].pop("$defs", {})
    for operation in _operations(document):
        operation["responses"].pop("422", None)  # FastAPI's own, in place of which `add_handlers` answers 400
    del schemas["HTTPValidationError"], schemas["ValidationError"]
    document["security"] = [*({scheme: []} for scheme in KEYS), {}]
    document["components"] |= {"responses": error_responses(), "headers": HEADERS, "securitySchemes": KEYS}
    return document


def _operations(document: Json) -> Iterator[Json]:
    for methods in document["paths"].values():
        yield from methods.values()


def _contents(document: Json) -> Iterator[Json]:
    """Yield every content type of every body."""
    for operation in _operations(document):
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            yield from body.get("content", {}).values()
