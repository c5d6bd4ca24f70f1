"""An order from the queue to the report, by the worker."""

import json

from served_cli import ACCOUNT, HELLO, Station, order, packed


def test_product_is_made_changed_and_ended(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order(name="you"))
    code, stdout, stderr = station.work()
    assert (code, json.loads(stdout)["status"]) == (0, "SUCCEEDED"), stderr
    outputs = station.sandbox.record("rec-1")["RecordOutputs"]
    assert [o["OutputValue"] for o in outputs] == ["hello you"]
    assert station.kept() == [
        f"{ACCOUNT}/pp-1",
        f"{ACCOUNT}/pp-1.artifact.tar.gz",
        f"{ACCOUNT}/pp-1.seen",
    ]
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2", name="all"))
    station.work()
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-3"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-3") == "SUCCEEDED", stderr
    assert "1 destroyed" in stderr
    assert [station.left(queue) for queue in station.queues.values()] == [0, 0, 0]
