"""A stand-in for the provider hashicorp/external, where the real one cannot be downloaded.

Its one data source starts `program` without a shell, gives it `query` as one JSON object of
strings on stdin, without the nulls, and takes one JSON object of strings from its stdout.
"""

import json
import subprocess
from typing import Any

from tf.iface import DataSource, Provider, ReadDataContext
from tf.runner import run_provider
from tf.schema import Attribute, Schema
from tf.types import List, Map, String
from tf.utils import Diagnostics


class External(DataSource):  # type: ignore[misc]
    def __init__(self, _: Provider) -> None:
        pass

    @classmethod
    def get_name(cls) -> str:
        return "external"

    @classmethod
    def get_schema(cls) -> Schema:
        return Schema(
            attributes=[
                Attribute("program", List(String()), required=True),
                Attribute("query", Map(String()), optional=True),
                Attribute("result", Map(String()), computed=True),
                Attribute("id", String(), computed=True),
            ]
        )

    def read(self, context: ReadDataContext, config: dict[str, Any]) -> dict[str, Any] | None:
        query = {name: v for name, v in (config["query"] or {}).items() if v is not None}
        try:
            done = subprocess.run(
                config["program"], input=json.dumps(query).encode(), capture_output=True
            )
        except OSError as error:
            context.diagnostics.add_error("External Program Lookup Failed", str(error))
            return None
        if done.returncode:
            context.diagnostics.add_error("External Program Execution Failed", done.stderr.decode())
            return None
        result = json.loads(done.stdout)
        if not isinstance(result, dict) or not all(isinstance(v, str) for v in result.values()):
            context.diagnostics.add_error("Unexpected External Program Results")
            return None
        return config | {"result": result, "id": "-"}


class ExternalProvider(Provider):  # type: ignore[misc]
    def get_model_prefix(self) -> str:
        return ""

    def full_name(self) -> str:
        return "hashicorp/external"

    def get_provider_schema(self, _: Diagnostics) -> Schema:
        return Schema(attributes=[])

    def validate_config(self, diagnostics: Diagnostics, config: dict[str, Any]) -> None:
        pass

    def configure_provider(self, diagnostics: Diagnostics, config: dict[str, Any]) -> None:
        pass

    def get_data_sources(self) -> list[type[DataSource]]:
        return [External]

    def get_resources(self) -> list[Any]:
        return []


if __name__ == "__main__":
    run_provider(ExternalProvider())
