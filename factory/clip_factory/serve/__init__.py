"""An encoder served over HTTP: photos of many clients in the batches of one network."""
