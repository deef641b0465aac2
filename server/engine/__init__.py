"""Windows of all requests in batches; one supervised process per model."""
