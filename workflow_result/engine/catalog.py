"""The orders that are under change: asked of Service Catalog, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflow_result.engine.calls import Service
from workflow_result.problem import Style, say

TYPES = ("EXTERNAL", "TERRAFORM_OPEN_SOURCE", "TERRAFORM_CLOUD")
"""The types of products that an engine serves
(https://docs.aws.amazon.com/servicecatalog/latest/dg/API_ProvisionedProductAttribute.html)."""

ENDED = ("SUCCEEDED", "FAILED")
"""https://docs.aws.amazon.com/servicecatalog/latest/dg/API_RecordDetail.html"""

_LARGEST_PAGE = 100


@dataclass(frozen=True)
class Order:
    """The last record of a provisioned product that is UNDER_CHANGE.

    `operation` is provision, update or terminate; `since`, when it was placed, and `updated`, when
    Service Catalog has changed it last, are in seconds since 1970; `account`, where the product
    is, may be empty. `ended`: how the record has ended all the same.
    """

    record_id: str
    operation: str
    product_id: str
    product_name: str
    product_type: str
    account: str
    since: float
    updated: float = 0.0
    ended: str = ""


class Catalog:
    """Service Catalog in one account: the one in which products are ordered."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def under_change(self) -> Iterator[Order]:
        """Yield what is under change of everybody's. Raises `Problem` where that is not known."""
        for product in self._products():
            record_id = product.get("LastRecordId")
            if not record_id:
                line = f"warning: {product['Id']} is UNDER_CHANGE, and Service Catalog names no "
                say(f"{line}record of it", Style.YELLOW)
                continue
            detail = self._detail(record_id)
            status, created = detail.get("Status", ""), detail["CreatedTime"]
            yield Order(
                record_id=record_id,
                operation=detail.get("RecordType", "").partition("_")[0].lower(),
                product_id=product["Id"],
                product_name=product.get("Name", ""),
                product_type=product["Type"],
                account=_account(product.get("Arn", "")),
                since=created.timestamp(),
                updated=detail.get("UpdatedTime", created).timestamp(),
                ended=status if status in ENDED else "",
            )

    def has_ended(self, record_id: str) -> bool:
        """Whether a record has ended by now. Raises `Problem` where that is not known."""
        return self._detail(record_id).get("Status") in ENDED

    def _products(self) -> Iterator[dict[str, Any]]:
        page: dict[str, str] = {}
        while True:
            answer = self._service.call(
                "the products that are UNDER_CHANGE are not known",
                "search_provisioned_products",
                AccessLevelFilter={"Key": "Account", "Value": "self"},
                Filters={"SearchQuery": ["status:UNDER_CHANGE"]},
                PageSize=_LARGEST_PAGE,
                **page,
            )
            for product in answer.get("ProvisionedProducts", []):
                if product.get("Status") == "UNDER_CHANGE" and product.get("Type") in TYPES:
                    yield product
            if not answer.get("NextPageToken"):
                return
            page = {"PageToken": answer["NextPageToken"]}

    def _detail(self, record_id: str) -> dict[str, Any]:
        answer = self._service.call(
            f"{record_id}: it is not known how it stands", "describe_record", Id=record_id
        )
        detail: dict[str, Any] = answer["RecordDetail"]
        return detail


def _account(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 5 else ""
