"""Parts of the image-size study: what is asked, which images are enlarged, and its table."""
