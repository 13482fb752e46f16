"""The store in a PostgreSQL database, through asyncpg: what is done stands in store/tables, here is what it runs on."""
