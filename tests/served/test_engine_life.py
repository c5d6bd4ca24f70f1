"""The module `engine`, from its own tests to its end: `terraform test`, upgrade, destroy."""

import hashlib
import shutil
import zipfile
from base64 import b64encode
from pathlib import Path

import pytest
from installed_engine import DRIFT, InstalledEngine
from ministack_server import ministack_server

pytestmark = pytest.mark.timeout(600)  # the provider waits for AWS to be of one mind


def test_terraform_tests_it(package: Path, tmp_path: Path) -> None:
    with ministack_server(tmp_path) as server:
        tested = InstalledEngine(tmp_path, server, package)("test", "-no-color")
    assert tested.code == 0, tested.stdout + tested.stderr
    assert " 0 passed" not in tested.stdout


def test_it_is_upgraded_in_place_and_not_destroyed_by_mistake(
    package: Path, tmp_path: Path
) -> None:
    """Functions get another package, builds find it where they found the old one; `terraform
    destroy` stops at states and journal; with deletion_protection = false nothing is left.
    """
    with ministack_server(tmp_path) as server:
        engine = InstalledEngine(tmp_path, server, package)
        engine.install()
        newer = tmp_path / "newer.zip"
        shutil.copy(package, newer)
        with zipfile.ZipFile(newer, "a") as archive:
            archive.writestr("new.txt", "new")
        engine.environment["TF_VAR_package"] = str(newer)
        changed = {a for a in engine.changes() if a.partition(".")[0] not in DRIFT}
        functions = {f'aws_lambda_function.this["{key}"]' for key in ("parser", "start", "finish")}
        assert changed == {*functions, "aws_s3_object.package"}
        engine.install()
        digest = b64encode(hashlib.sha256(newer.read_bytes()).digest()).decode()
        listed = server.client("lambda").list_functions()["Functions"]
        assert {function["CodeSha256"] for function in listed} == {digest}

        s3, bucket = server.client("s3"), engine.output("state_bucket")
        s3.put_object(Bucket=bucket, Key="000000000000/pp-1", Body=b"{}")
        engine.forget_project()
        destroyed = engine.destroy("-target=module.journal", '-target=aws_s3_bucket.this["state"]')
        assert destroyed.code == 1
        assert "BucketNotEmpty" in destroyed.stderr
        assert server.client("dynamodb").list_tables()["TableNames"] == ["workflow-result"]
        assert s3.list_object_versions(Bucket=bucket)["Versions"]

        engine.install(deletion_protection=False)
        engine.forget_project()
        destroyed = engine.destroy()
        assert destroyed.code == 0, destroyed.stderr
        assert s3.list_buckets()["Buckets"] == []
        assert server.client("dynamodb").list_tables()["TableNames"] == []
        assert server.client("sqs").list_queues().get("QueueUrls", []) == []
        assert server.client("iam").list_roles(PathPrefix="/TerraformEngine/")["Roles"] == []
