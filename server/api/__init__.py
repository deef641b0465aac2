"""The doors: HTTP in OpenAI's shape. The only home of fastapi and starlette."""
