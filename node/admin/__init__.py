"""The admin web application: sign-in, the radiographs and their state, retries."""
