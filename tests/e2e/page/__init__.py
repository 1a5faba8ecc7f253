"""The page at `/` in a real Chromium, against a real gateway and broker; the tests play crawler and dedup."""
