"""HTTP in OpenAI's shape. Only here fastapi and starlette are imported."""
