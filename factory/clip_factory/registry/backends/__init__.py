"""Where releases are kept: folders, file systems of fsspec, GitHub, the Hugging Face Hub, MLflow, a web server."""
