//! Fuzz targets: functions over arbitrary octets that check what must always hold.
