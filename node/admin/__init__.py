"""The admin web application: sign in, see every radiograph and what became of it, ask again."""
