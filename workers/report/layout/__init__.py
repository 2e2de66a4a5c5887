"""Pages for people: fonts, canvas, frames, heat maps over the film, and the words on them."""
