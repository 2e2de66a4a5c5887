"""Which side a knee is: header, descriptions, lead markers and fibula, and the vote between them."""
