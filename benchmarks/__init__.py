"""What parts of Agora cost, one script for each; for who changes them."""
