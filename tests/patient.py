"""Settings for tests that share this machine's processors with all else: what is slow is not the site or its CDN."""

from __future__ import annotations

PATIENT_S = 20.0
PATIENT = {  # with the time-outs of one request as they are
    "REQUESTS_PER_SECOND": "50",
    "SITE_REQUESTS_PER_SECOND": "50",
    "SITE_WAIT_S": str(PATIENT_S),
    "ITEM_TIMEOUT_S": str(5 * PATIENT_S),
}
MOST_PATIENT = {**PATIENT, "REQUEST_TIMEOUT_S": str(PATIENT_S)}
