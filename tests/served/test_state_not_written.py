"""What Terraform has made is known afterwards, though S3 did not take its state at first."""

from pathlib import Path

from ministack_server import Ministack
from served_cli import HELLO, Station, order, packed
from test_orders import STATE, status_and_reason
from watched_calls import Call, watched

SIGNALS = """
resource "terraform_data" "signals" {
  input = terraform_data.it.output
  provisioner "local-exec" {
    command = "touch '%s'"
  }
}
"""
KILLS = """
resource "terraform_data" "kills" {
  provisioner "local-exec" {
    command = "kill -KILL $PPID"
  }
}
"""


def make(station: Station, ministack: Ministack, *, denials: int) -> str:
    """Order a product of two resources whose state S3 does not take so often; what is said."""
    begun = Path(station.home, "begun")
    denied: list[Call] = []

    def is_denied(call: Call) -> bool:
        writes_state = call == ("s3:PutObject", f"arn:aws:s3:::{station.state}/{STATE}")
        if writes_state and begun.exists() and len(denied) < denials:
            denied.append(call)
            return True
        return False

    station.upload("v1", packed(main_tf=HELLO + SIGNALS % begun))
    station.send(order(name="you"))
    with watched(ministack.url) as way:
        way.is_denied = is_denied
        _, _, stderr = station.work(AWS_ENDPOINT_URL=way.url)
    assert denied
    return stderr


def test_state_that_was_not_taken_at_first_is_written_and_the_order_goes_on(
    station: Station, ministack: Ministack
) -> None:
    stderr = make(station, ministack, denials=2)
    record = station.sandbox.record("rec-1")
    assert record["RecordDetail"]["Status"] == "SUCCEEDED", stderr
    assert [output["OutputValue"] for output in record["RecordOutputs"]] == ["hello you"]
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    assert "2 destroyed" in stderr


def test_terminate_fails_where_terraform_was_at_work_and_has_left_no_state(
    station: Station,
) -> None:
    """Nothing would be found to destroy, whatever is there."""
    station.upload("v1", packed(main_tf=HELLO + KILLS))
    station.send(order())
    station.work()
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
    assert status_and_reason(station, "rec-2") == (
        "FAILED",
        f"There is no state {STATE} in the engine's state bucket, though Terraform was at work: "
        "what it has made is not known. Where its resources are gone, or are to stay, an "
        "administrator can terminate it with the option to ignore errors (IgnoreErrors), which "
        "leaves them alone.",
    )


def test_terminate_succeeds_where_apply_had_not_begun_to_change_anything(
    station: Station,
) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    fails = station.program('[ "$1" = apply ] && exit 1; exec terraform "$@"')
    station.work("--terraform", fails)
    assert station.sandbox.status("rec-1") == "FAILED"
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
    assert status_and_reason(station, "rec-2") == ("SUCCEEDED", "")


def test_terminate_fails_where_an_update_after_that_had_not_begun_to_change_anything(
    station: Station,
) -> None:
    station.upload("v1", packed(main_tf=HELLO + KILLS))
    station.send(order())
    station.work()
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2"))
    fails = station.program('[ "$1" = apply ] && exit 1; exec terraform "$@"')
    station.work("--terraform", fails)
    assert station.sandbox.status("rec-2") == "FAILED"
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-3"))
    status, reason = status_and_reason(station, "rec-3")
    assert (status, reason.partition(",")[0]) == (
        "FAILED",
        f"There is no state {STATE} in the engine's state bucket",
    )
