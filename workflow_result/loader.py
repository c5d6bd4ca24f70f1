"""Reads botocore's service models in less time and memory than botocore itself does.

The files and where they are looked for are botocore's own
(https://botocore.amazonaws.com/v1/documentation/api/latest/reference/loaders.html).
"""

import gzip
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

_loaders: dict[tuple[str, ...], "ServiceCatalogLoader"] = {}


def new_session(profile: str | None) -> Session:
    """Return a session of botocore's, for the AWS profile of this name or the usual one.

    All of them read each model once.
    """
    session = Session(profile=profile)
    folders = tuple(session.get_component("data_loader").search_paths)
    loader = _loaders.setdefault(folders, ServiceCatalogLoader(folders))
    session.register_component("data_loader", loader)
    return session


class ServiceCatalogLoader(Loader):
    """What the clients of Service Catalog and of the other services read their models with.

    They are in `folders`.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        super().__init__(list(folders), _FileLoader(), include_default_search_paths=False)

    def list_available_services(self, type_name: str) -> list[str]:
        # botocore looks through the folders of all services to see whether there is one of
        # this name: half the time of creating the client. The others give credentials.
        used = ["codebuild", "dynamodb", "s3", "servicecatalog", "sqs", "stepfunctions"]
        return [*used, "signin", "sso", "sso-oidc", "sts"]


class _FileLoader(JSONFileLoader):
    # botocore makes an OrderedDict of each object, from before dicts kept their order: over 3 MiB
    # more for endpoints.json alone, which every client reads.
    def load_file(self, file_path: str) -> Any:
        for ending, open_file in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), open_file(file_path + ending, "rb") as file:
                return json.load(file)
        return None
