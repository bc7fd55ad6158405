"""From a problem to what runs on this device: chosen, verified, launched."""
