"""The tests: unit/ mirrors the sources, integration/ runs real servers, support/ helps both."""
