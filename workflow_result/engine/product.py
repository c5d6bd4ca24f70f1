"""What lies beside the state of a product: that the engine has seen it, and what it applied last.

The key of the state is `<awsAccountId>/<provisionedProductId>`, as AWS's Terraform Reference Engine
has it. Beside it lie `….seen`, and `….artifact.tar.gz`: the artifact that was applied last, with
its lock file, and the parameters.
"""

import json
from pathlib import Path

from workflow_result.engine import artifact
from workflow_result.engine.state_bucket import StateBucket

ARTIFACT = "artifact"
PARAMETERS = "parameters.json"


class Product:
    """What the engine keeps of the product whose state is under `key`.

    Every method raises `Problem` where the bucket cannot be used.
    """

    def __init__(self, bucket: StateBucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._archive = f"{key}.artifact.tar.gz"
        self._is_first = False

    def mark(self, record_id: str) -> None:
        """Note that the engine has seen it, in which order first."""
        self._bucket.put(f"{self._key}.seen", record_id.encode(), if_absent=True)

    def was_seen(self) -> bool:
        """Whether the engine has seen it."""
        return self._bucket.has(f"{self._key}.seen")

    def has_state(self) -> bool:
        """Whether Terraform has ever written a state of it."""
        return self._bucket.has(self._key)

    def keep(self, folder: Path, parameters: dict[str, str]) -> None:
        """Keep the artifact in `folder`, and the parameters, for a terminate: its message has
        neither."""
        pairs = [{"key": key, "value": value} for key, value in parameters.items()]
        (folder / PARAMETERS).write_text(json.dumps(pairs), encoding="utf-8")
        archive = folder.with_suffix(".tar.gz")
        artifact.pack(folder, archive)
        self._is_first = not self._bucket.has(self._archive)
        self._bucket.upload(archive, self._archive)
        archive.unlink()

    def take_back(self) -> None:
        """Nothing was applied after all: where it is the first that was kept, and there is no
        state, it goes. Another one may have been at work before, and have left none."""
        if self._is_first and not self.has_state():
            self._bucket.delete(self._archive)

    def fetch(self, folder: Path) -> dict[str, str] | None:
        """Unpack what was kept to `folder`, and return the parameters; None where nothing was.

        Raises `artifact.Unfit` where it is damaged.
        """
        archive = folder.with_suffix(".tar.gz")
        if not self._bucket.download(self._archive, archive):
            return None
        name = f"The artifact kept as {self._archive}"
        artifact.unpack(archive, folder, name, is_own=True)
        archive.unlink()
        if not (folder / ARTIFACT).is_dir():
            raise artifact.Unfit(f"{name} has no {ARTIFACT} in it")
        try:
            pairs = json.loads((folder / PARAMETERS).read_text(encoding="utf-8"))
            return {str(pair["key"]): str(pair["value"]) for pair in pairs if "value" in pair}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise artifact.Unfit(f"{name} has no parameters that can be read") from error
