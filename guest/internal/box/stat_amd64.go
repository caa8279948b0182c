package box

const sysFstatat = 262 // newfstatat
