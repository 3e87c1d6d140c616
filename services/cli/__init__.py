"""`tether`: what people do with a platform, at a terminal or in a script."""
