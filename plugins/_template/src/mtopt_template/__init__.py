"""A plugin of mtcore; `hooks` says what it adds."""
