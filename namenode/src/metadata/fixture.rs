//! What the tests of the metadata share.
