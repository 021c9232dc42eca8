"""Train styles from two folders of pictures that need not show the same things."""
