"""What images start from: noise, or real images and how they are chosen."""
