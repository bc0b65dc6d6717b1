"""What was seen of the world: values that the acting rooms bring and the deciding rooms judge."""
