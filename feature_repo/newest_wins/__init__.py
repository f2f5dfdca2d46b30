"""Newest wins: a Redis online store for Feast in which an older row never replaces a newer one.

    online_store:
      type: newest_wins.online_store.NewestWinsOnlineStore
      connection_string: localhost:6379

The folder stands alone: it needs Feast, redis-py and the standard library, and may be copied into any Feast
repository (docs/online-store.md). `script` is free of Feast, so that a hot path can write the same rows without it.
"""
