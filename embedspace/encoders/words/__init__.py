"""What reads words without torch: word pieces, the text network and the text projection in numpy."""
