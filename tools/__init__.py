"""What the developers of Agora run: locking, pictures, reference pages."""
