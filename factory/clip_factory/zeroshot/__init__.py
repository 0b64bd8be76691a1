"""Zero-shot on a folder, without training anything: classes, search, wordings and encoders, compared and shown."""
