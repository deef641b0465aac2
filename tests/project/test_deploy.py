"""The files of deploy/ and compose.yaml: they name only what there is, and agree with the server's settings."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.api.paths import CHECKS
from server.commands.serve import ANSWER_S
from server.settings import PREFIX, Settings
from tests.monitoring.test_prometheus import names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = [ROOT / "compose.yaml", *sorted(DEPLOY.iterdir()), *sorted((ROOT / "docs").glob("*.md"))]
ANALYZE = shutil.which("systemd-analyze") or ""
STOP_S = Settings.model_fields["grace_seconds"].default + ANSWER_S

Tree = dict[str, Any]


def unit() -> list[tuple[str, str]]:
    """The options of the service, those that are commented out left out."""
    return re.findall(r"^([A-Z]\w+)=(.*)$", (DEPLOY / "sotto.service").read_text("utf-8"), re.MULTILINE)


def option(name: str) -> str:
    (value,) = [value for found, value in unit() if found == name]
    return value


def documents() -> dict[str, Tree]:
    """Of the Kubernetes example, by kind."""
    found = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    return {document["kind"]: document for document in found}


def pod() -> Tree:
    spec: Tree = documents()["Deployment"]["spec"]["template"]["spec"]
    return spec


def container() -> Tree:
    (only,) = pod()["containers"]
    return dict(only)


def services() -> dict[str, Tree]:
    found: dict[str, Tree] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    return found


def queries() -> list[str]:
    """Of the dashboard and of the alerts."""
    panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))["groups"]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [r["expr"] for r in group["rules"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_setting_that_a_file_names_is_one(file: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    # Compose's own, that of `sotto ps`, the one that names a file, and those of `make test-real`.
    others = {f"{PREFIX}{name}" for name in ("ADDRESS", "API_KEY", "CONFIG", "REAL_AUDIO", "REAL_MODEL")}
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+[A-Z]\b", file.read_text("utf-8")))
    assert named <= known | others


def test_every_way_to_stop_waits_longer_than_the_server() -> None:
    waits = [float(service["stop_grace_period"].removesuffix("s")) for service in services().values()]
    waits += [float(option("TimeoutStopSec")), pod()["terminationGracePeriodSeconds"]]
    assert len(waits) == 4
    assert all(wait >= STOP_S + 5 for wait in waits)


def test_the_service_is_confined_and_lets_the_server_end_its_own_children() -> None:
    for name, value in {
        "User": "sotto",
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "RestrictNamespaces": "yes",
        "KillMode": "mixed",
        "Restart": "on-failure",
        "OOMPolicy": "continue",
    }.items():
        assert option(name) == value
    for call in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        assert call in option("SystemCallFilter").split()
    breaks = {"MemoryDenyWriteExecute", "PrivateDevices", "ProcSubset", "PrivateNetwork"}
    assert not breaks & {name for name, _ in unit()}


def test_the_service_keeps_its_files_where_it_may_write() -> None:
    folders = {f"%S/{name}" for name in option("StateDirectory").split()}
    settings = dict(value.partition("=")[::2] for name, value in unit() if name == "Environment")
    assert {settings["SOTTO_MODELS_DIR"], settings["TMPDIR"]} <= folders


@pytest.mark.skipif(not ANALYZE, reason="no systemd here")
def test_systemd_understands_the_service_and_finds_it_confined(tmp_path: Path) -> None:
    text = (DEPLOY / "sotto.service").read_text("utf-8")
    service = tmp_path / "sotto.service"
    service.write_text(text.replace(option("ExecStart").split()[0], "/bin/true"))
    verified = subprocess.run([ANALYZE, "verify", service], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stderr) == (0, "")
    judge = [ANALYZE, "security", "--offline=yes", "--threshold=25", "--no-pager", str(service)]
    judged = subprocess.run(judge, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-500:]


def test_compose_has_a_profile_for_cpus_and_one_for_gpus() -> None:
    profiles = {name: service["profiles"] for name, service in services().items()}
    assert profiles == {"cpu": ["cpu"], "cuda": ["cuda", "gpu"]}
    for service in services().values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["pids_limit"] > 0
        assert "mem_limit" in service
        assert {volume.partition(":")[2] for volume in service["volumes"]} == {"/models", "/spool"}
        assert "'/ready'" in service["healthcheck"]["test"][-1]
        compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_compose_can_take_the_keys_from_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = yaml.safe_load((DEPLOY / "compose.keys.yaml").read_text("utf-8"))
    [(secret, source)] = more["secrets"].items()
    assert source == {"file": "${KEYS_FILE:-./keys}"}
    assert more["services"].keys() == services().keys()
    (tmp_path / "keys").write_text("laptop 0123456789abcdef0123\n")
    for name, service in more["services"].items():
        assert service["secrets"] == [secret]
        environment = services()[name]["environment"] | service["environment"]  # as Compose merges them
        assert environment["SOTTO_API_KEYS_FILE"] == f"/run/secrets/{secret}"
        assert environment["SOTTO_API_KEYS"] == "${SOTTO_API_KEYS:-}"
        monkeypatch.setenv("SOTTO_API_KEYS", "")
        monkeypatch.setenv("SOTTO_API_KEYS_FILE", str(tmp_path / "keys"))
        assert [key.get_secret_value() for key in Settings().api_keys] == ["laptop 0123456789abcdef0123"]


def test_kubernetes_asks_for_a_gpu_and_probes_what_there_is() -> None:
    assert container()["resources"]["limits"]["nvidia.com/gpu"] == 1
    probes = {name: value for name, value in container().items() if name.endswith("Probe")}
    asked = {name: value["httpGet"]["path"] for name, value in probes.items() if "httpGet" in value}
    assert asked == {"startupProbe": "/health", "readinessProbe": "/ready"}
    assert set(asked.values()) == CHECKS
    assert set(probes) - set(asked) == {"livenessProbe"}


def test_liveness_is_asked_for_where_strangers_can_t_fill_the_connections() -> None:
    """The server keeps some for its own machine; the cluster's nodes are others."""
    images = [(ROOT / f"Dockerfile.{kind}").read_text("utf-8") for kind in ("cpu", "cuda")]
    checks = [next(line for line in image.splitlines() if "'/health'" in line) for image in images]
    *_, code = container()["livenessProbe"]["exec"]["command"]
    assert all("HTTPConnection('127.0.0.1'" in check and "'/health'" in check for check in (code, *checks))
    compile(code, "livenessProbe", "exec")


def test_kubernetes_confines_the_container() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["name"] for mount in container()["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod()["volumes"]}


def test_kubernetes_lets_only_its_own_port_be_reached() -> None:
    policy = documents()["NetworkPolicy"]["spec"]
    labels = documents()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (entry,) = policy["ingress"]
    assert {port["port"] for port in entry["ports"]} <= {port["name"] for port in container()["ports"]}
    assert entry["from"]


def test_a_service_named_sotto_does_not_set_the_port() -> None:
    """Kubernetes would set SOTTO_PORT to `tcp://...`, which is no port."""
    assert documents()["Service"]["metadata"]["name"] == "sotto"
    assert pod()["enableServiceLinks"] is False


def test_queries_ask_for_series_that_there_are() -> None:
    parts = ("", "_bucket", "_sum", "_count")
    known = {f"{name}{part}" for name in names() for part in parts}
    asked = {name for query in queries() for name in re.findall(r"\bsotto_\w+", query)}
    assert len(asked) > 20
    assert asked <= known


def test_there_are_three_alerts_each_with_words() -> None:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))["groups"]
    assert len(group["rules"]) == 3
    for rule in group["rules"]:
        assert rule["alert"].startswith("Sotto")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_readme_names_every_file() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for file in DEPLOY.iterdir():
        assert f"(deploy/{file.name})" in readme
