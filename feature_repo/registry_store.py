"""Registry store: Feast's registry file, by default where the settings say, never half-visible.

    registry:
      registry_store_type: feature_repo.registry_store.RunRegistryStore

Feast truncates the file and writes it again; a reader in between sees an empty registry. Here a new file
takes the old one's place.
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast.infra.registry.file import FileRegistryStore

from feature_repo.settings import load_settings


class RunRegistryStore(FileRegistryStore):  # type: ignore[misc]
    """A registry file; without a `path`, the one of the settings' run folder."""

    def __init__(self, registry_config: Any, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        if not registry_config.path:
            self._filepath = load_settings().registry

    def _write_registry(self, registry_proto: Any) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(UTC))
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._filepath.with_name(f"{self._filepath.name}.{os.getpid()}.tmp")
        fresh.write_bytes(registry_proto.SerializeToString())
        fresh.replace(self._filepath)
