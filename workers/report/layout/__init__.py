"""Pages for readers: fonts, canvas, page frame, heat maps over the film, and texts."""
