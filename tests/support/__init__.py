"""What several tests share: runs without the hours, stand-ins of web services on loopback, real servers."""
