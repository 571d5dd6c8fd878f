"""From the bytes of images to batches on a device."""
