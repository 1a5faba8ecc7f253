// A worker that does nothing: the hostile page registers it as a service worker.
