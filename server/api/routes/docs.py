"""GET /docs: the OpenAPI document as an HTML page, without scripts, further files or other hosts.

Not Swagger UI: the packages that bring its 1.5 MB of minified script to Python omit its license
(fastapi-offline, fastapi-swagger, each maintained by one person) or are too old for OpenAPI 3.1
(swagger-ui-bundle).
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

Json = Mapping[str, Any]

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid #8888; padding-top: 1rem; }
table { border-collapse: collapse; width: 100%; }
td { border-bottom: 1px solid #8884; padding: .3rem 1rem .3rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; }
pre { background: #8882; padding: .5rem 1rem; overflow-x: auto; }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Return the page; it needs no key, as it reveals nothing about this server but its version."""
    return HTMLResponse(page(request.app.openapi()), headers=HEADERS)


def page(document: Json) -> str:
    """Render an OpenAPI `document` as HTML."""
    info = document["info"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
            *(f"<p>{_text(each)}</p>" for each in info["description"].split("\n\n")),
            '<p>For programs: <a href="openapi.json">openapi.json</a></p>',
            *_operations(document),
            *_schemas(document["components"]["schemas"]),
            "</body></html>",
        ]
    )


def _operations(document: Json) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f'<h2 id="{operation["operationId"]}">{method.upper()} {escape(path)}</h2>'
            yield f"<p>{_text(operation['description'])}</p>"
            if "parameters" in operation:
                yield _table(
                    (_code(each["name"]), _property(each["schema"] | each, "")) for each in operation["parameters"]
                )
            if "requestBody" in operation:
                for content_type, content in operation["requestBody"]["content"].items():
                    yield f"<h3>Body, {_code(content_type)}</h3>"
                    yield _members(content["schema"])
            yield "<h3>Answers</h3>"
            yield _table(_answers(operation, document))


def _answers(operation: Json, document: Json) -> Iterator[tuple[str, str]]:
    for status, response in operation["responses"].items():
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        contents = (
            f"{_code(content_type)}: {_type(content['schema'])}"
            for content_type, content in response.get("content", {}).items()
        )
        yield escape(status), "<br>".join([_text(response["description"]), *contents])


def _schemas(schemas: Json) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<h2 id="{name}">{name}</h2>'
        if "description" in schema:
            yield f"<p>{_text(schema['description'])}</p>"
        yield _members(schema)


def _members(schema: Json) -> str:
    return _properties(schema) if "properties" in schema else f"<p>{_type(schema)}</p>"


def _properties(schema: Json) -> str:
    required = schema.get("required", ())
    return _table(
        (_code(name), _property(each, "" if name in required else "optional"))
        for name, each in schema["properties"].items()
    )


def _property(schema: Json, need: str) -> str:
    default = f"default {_code(json.dumps(schema['default']))}" if "default" in schema else ""
    facts = ", ".join(fact for fact in (_type(schema), need, default) if fact)
    return f"{facts}<br>{_text(schema.get('description', ''))}"


def _type(schema: Json) -> str:
    """Describe the type of a value in a few words."""
    match schema:
        case {"$ref": reference}:
            name = escape(reference.rpartition("/")[2])
            return f'<a href="#{name}">{name}</a>'
        case {"anyOf": choices} | {"oneOf": choices}:
            return " or ".join(map(_type, choices))
        case {"const": value}:
            return _code(str(value))
        case {"enum": values}:
            return " or ".join(_code(value) for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"properties": _}:
            return f"object {_properties(schema)}"
        case {"format": "binary"}:
            return "file"
        case _:
            return escape(schema["type"])


def _table(rows: Iterator[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><td>{left}</td><td>{right}</td></tr>' for left, right in rows)}</table>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _text(markdown: str) -> str:
    """Render the small part of Markdown that descriptions use."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown))
