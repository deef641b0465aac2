"""Contract, section 7: what clients rely on though no schema says it; and models, as their schemas have them."""

import pytest
from starlette.testclient import TestClient

from server.languages import code_of
from tests.contract.schemas import fits

# What the cloud's whisper-1 takes, by its own error message.
LIVE_LANGUAGES = (
    "af ar az be bg bs ca cs cy da de el en es et fa fi fr gl he hi hr hu hy id is it ja kk kn ko lt lv mi mk mr "
    "ms ne nl no pl pt ro ru sk sl sr sv sw ta th tl tr uk ur vi zh"
).split()


def test_every_language_of_the_cloud_is_known() -> None:
    assert [code for code in LIVE_LANGUAGES if code_of(code) != code] == []


def test_models_fit_their_schemas(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    fits(listed, "ListModelsResponse", "ModelList")
    assert {"demo", "whisper-1"} <= {each["id"] for each in listed["data"]}
    for each in listed["data"]:
        described = client.get(f"/v1/models/{each['id']}").json()
        fits(described, "Model", "ModelEntry")
        assert described.pop("languages")
        assert described == {name: value for name, value in each.items() if name != "languages"}
        fits(each, "Model", "ModelEntry")
    assert [each["demo"] for each in listed["data"]] == [True] * len(listed["data"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_model_fits_the_error_s_schema(client: TestClient, method: str) -> None:
    answer = client.request(method, "/v1/models/org%2Fnone")
    assert answer.status_code == 404
    fits(answer.json(), "ErrorResponse", "ErrorResponse")
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert error["message"].startswith("The model 'org/none' does not exist")


@pytest.mark.parametrize(("path", "schema"), [("/health", "Health"), ("/ready", "Readiness")])
def test_probes_fit_our_schemas(client: TestClient, path: str, schema: str) -> None:
    fits(client.get(path).json(), None, schema)
