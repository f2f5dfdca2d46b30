"""An as-of offline store for Feast: history as it was known, from Parquet.

    offline_store:
      type: feast_asof.AsOfOfflineStore

Copy this folder beside your `feature_store.yaml`. It needs Feast, DuckDB, PyArrow and pandas, and nothing else of
the repository it comes from. The rule: at time t, among the rows known by t, the one with the greatest (event
time, created); then the view's TTL. Every entity row is kept, in its order; where nothing is known the features
are null.
"""

from .offline_store import AsOfJob, AsOfOfflineStore, AsOfOfflineStoreConfig

__all__ = ["AsOfJob", "AsOfOfflineStore", "AsOfOfflineStoreConfig"]
