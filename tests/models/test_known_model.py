from pathlib import Path

import pytest

from server.models.known_model import KnownModel

KNOWN = KnownModel(("bad", "owner/bad"), Path("/srv/my models/owner--bad"))


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("", ""),
        ("it was ended by SIGKILL", "it was ended by SIGKILL"),
        (
            "/srv/my models/owner--bad is no usable model: it lacks model.bin",
            "'bad' is no usable model: it lacks model.bin",
        ),
        ("The model in /srv/my models/owner--bad/model.bin is cut", "The model in 'bad'/model.bin is cut"),
        ("put it into /srv/my models/owner--bad-ct2", "put it into 'bad'-ct2"),
        ("see /srv/my models/other/config.json", "see other/config.json"),
        ("Unable to open file '/home/anna/blobs/12ab' in", "Unable to open file '12ab' in"),
        ('[Errno 13] Permission denied: "/etc/keys"', '[Errno 13] Permission denied: "keys"'),
        ("File /opt/x.py, line 3: /a", "File x.py, line 3: a"),
        ("int8/float32 on cuda:0 and/or https://host/path, ~/here, ../there", None),
        ("a / b", None),
    ],
)
def test_clients_see_no_folder_of_this_machine(text: str, public: str | None) -> None:
    assert KNOWN.without_paths(text) == (text if public is None else public)
