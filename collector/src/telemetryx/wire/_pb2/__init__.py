"""Generated from proto/telemetryx/v1/link.proto."""
