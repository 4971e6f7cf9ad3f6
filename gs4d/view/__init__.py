"""Windows in the browser: a fit while it goes on."""
