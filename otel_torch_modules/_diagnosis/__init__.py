"""What is slow, where and since when: findings about steps. Knows neither files nor terminals."""
