"""Where the knee joints are on a film, how they lie, what each of them is, and what lies beside the bones."""
