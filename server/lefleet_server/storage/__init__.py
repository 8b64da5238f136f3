"""Episode files, kept under their SHA-256: in a local folder or in an object store, behind one interface."""

from lefleet_server.storage.blobs import BlobStore, Found, OtherBytesError, folder_bounds, key
from lefleet_server.storage.local import LocalBlobs

__all__ = ["BlobStore", "Found", "LocalBlobs", "OtherBytesError", "folder_bounds", "key"]
