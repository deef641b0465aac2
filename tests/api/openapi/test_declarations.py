from server.api.openapi.document import describe

# Generated clients have these names.
OPERATIONS = {
    "createTranscription": "POST /v1/audio/transcriptions",
    "createTranslation": "POST /v1/audio/translations",
    "renderTranscript": "POST /v1/audio/transcriptions/render",
    "listModels": "GET /v1/models",
    "retrieveModel": "GET /v1/models/{model}",
    "pullModel": "POST /v1/models/{model}",
    "deleteModel": "DELETE /v1/models/{model}",
    "listRunning": "GET /api/ps",
    "loadModel": "POST /api/ps/{model}",
    "unloadModel": "DELETE /api/ps/{model}",
    "health": "GET /health",
    "ready": "GET /ready",
    "metrics": "GET /metrics",
}


def test_operations_keep_their_names() -> None:
    paths = describe()["paths"].items()
    assert {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in paths
        for method, operation in methods.items()
    } == OPERATIONS
