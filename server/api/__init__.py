"""The HTTP API in OpenAI's shape. Only here fastapi and starlette are imported."""
