"""S3 without botocore: requests signed by keys, or by the service."""
